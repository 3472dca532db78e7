"""Tests on a kernel with Open vSwitch's own datapath (``datapath_type=system``)."""
