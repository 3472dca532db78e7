"""The tests: the core, the controller, real Open vSwitch, Mininet, and the rules of the house."""
