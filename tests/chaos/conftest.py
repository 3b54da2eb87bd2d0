"""What chaos tests share."""

from tests.chaos.figures import figure

__all__ = ["figure"]
