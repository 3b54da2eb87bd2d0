"""The REST API under /api/v1, one file per noun."""

from connector.web.api.backfills import backfills
from connector.web.api.configuration import configuration
from connector.web.api.dead_letters import dead_letters
from connector.web.api.deliveries import deliveries
from connector.web.api.destinations import destinations
from connector.web.api.merges import merges
from connector.web.api.privacy import privacy
from connector.web.api.profiles import profiles
from connector.web.api.pushes import pushes
from connector.web.api.quality import quality
from connector.web.api.routes import Noun
from connector.web.api.segments import segments
from connector.web.api.sources import sources
from connector.web.api.status import status
from connector.web.api.trials import trials
from connector.web.api.verification import verification

NOUNS: tuple[Noun, ...] = (
    status,
    profiles,
    merges,
    segments,
    sources,
    backfills,
    trials,
    quality,
    destinations,
    verification,
    deliveries,
    pushes,
    dead_letters,
    privacy,
    configuration,
)
