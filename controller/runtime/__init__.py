"""The only place that knows ryu from os-ken, and green threads from real ones."""
