"""The destination that prints: for dry runs and for first steps without an account anywhere."""

from collections.abc import Sequence

from adapters.destination import (
    Account,
    Change,
    Clock,
    Cue,
    FieldSpec,
    Fit,
    Forecast,
    Held,
    Limits,
    Membership,
    Option,
    Outcome,
    Settings,
    Takes,
    Wanted,
)


class Console:
    """Prints one line per thing it is asked to do and calls everything applied."""

    vendor = "console"
    takes = Takes(options={"name": Option(r".+", "preview")})
    limits = Limits(batch=100, concurrency=1)

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._account = settings.options.get("name", "console")

    def check_login(self) -> Account:
        return Account(self._account, self._account)

    def provision(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> list[str]:
        return []

    def foresee(self, fields: Sequence[FieldSpec], tags: Sequence[str]) -> Forecast:
        return Forecast(
            [Fit(spec.name, "created", "printed") for spec in fields], [Fit(tag, "created", "printed") for tag in tags]
        )

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        for change in changes:
            tags = [f"+{tag}" for tag in change.tags_added] + [f"-{tag}" for tag in change.tags_removed]
            fields = [f"{name}={value}" for name, value in change.fields.items()]
            self._say("contact", change.email, *tags, *fields)
        return [Outcome(change.key, "applied", remote_id=change.remote_id) for change in changes]

    def send(self, cues: Sequence[Cue]) -> list[Outcome]:
        for cue in cues:
            self._say("cue", cue.email, cue.name, *(f"{name}={value}" for name, value in cue.properties.items()))
        return [Outcome(cue.key, "applied", remote_id=cue.remote_id) for cue in cues]

    def ensure_list(self, name: str, known_id: str | None) -> str:
        return name

    def update_list(self, list_id: str, memberships: Sequence[Membership]) -> list[Outcome]:
        for member in memberships:
            self._say("list", member.email, f"{'+' if member.added else '-'}{list_id}")
        return [Outcome(member.key, "applied", remote_id=member.remote_id) for member in memberships]

    def read(self, wanted: Sequence[Wanted]) -> list[Held]:
        """Nobody: what was printed is not kept."""
        return [Held(want.key, "missing") for want in wanted]

    def unite(self, kept: str, gone: str) -> bool:
        """False: two lines stay two lines."""
        return False

    def forget(self, email: str, remote_id: str | None = None) -> None:
        self._say("forget", email)

    def close(self) -> None:
        """Nothing is held open."""

    def _say(self, *words: str) -> None:
        print(f"[{self._account}]", *words, flush=True)
