"""What the stories share: the lab, the traffic, and the check that counts every frame everywhere.

Runs under the system's python3 with Debian's mininet; imports nothing but those and the standard
library, because `mn --custom` does the same.
"""

from story.network import topology
from story.run import tell
from story.words import Session, Story, TapPort, Workload

__all__ = ["Session", "Story", "TapPort", "Workload", "tell", "topology"]
