"""Why a packet is, or is not, copied; what sensors get; the pipeline page."""

from flows.explain.explain import Answer, Explanation, explain
from flows.explain.feed import Feed, feed_of
from flows.explain.trace import Interpreter

__all__ = [
    "Answer",
    "Explanation",
    "Feed",
    "Interpreter",
    "explain",
    "feed_of",
]
