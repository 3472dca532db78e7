"""What the stories share: the lab, the traffic, and the check that counts every frame everywhere.

Runs under the system's python3 with Debian's mininet; imports nothing but those and the standard
library, because `mn --custom` does the same.
"""
