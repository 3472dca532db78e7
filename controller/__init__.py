"""The shell of cloudtap: everything that touches switches, databases, clients and the clock."""
