"""Everything that speaks to switches: OpenFlow, and the Open vSwitch database."""
