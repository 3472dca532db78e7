"""Tests of controller/neutron/."""
