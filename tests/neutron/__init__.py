"""cloudtap beside a real Neutron: its agent owns br-int, as on a compute node."""
