"""Tests on the datapath of the kernel: run them in a machine whose kernel has Open vSwitch."""
