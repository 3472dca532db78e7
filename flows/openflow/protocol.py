"""Numbers of protocols: those in a frame (EtherTypes, IP protocols, tags), and those of OpenFlow.

Sources: IEEE 802 numbers and protocol numbers of IANA; IEEE 802.1Q for tags; OpenFlow Switch
Specification 1.3.5, sections 7.1 and 7.3.5.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

ETH_TYPE_MIN = 0x0600
"""The lowest EtherType; lower values are lengths (IEEE 802.3)."""
ETH_IPV4, ETH_ARP, ETH_IPV6 = 0x0800, 0x0806, 0x86DD
ETH_VLAN, ETH_QINQ = 0x8100, 0x88A8
ETH_MPLS = 0x8847
ETH_BRIDGED = 0x6558
"""An Ethernet frame inside GRE or Geneve (Transparent Ethernet Bridging)."""
ETH_ERSPAN2, ETH_ERSPAN3 = 0x88BE, 0x22EB
"""Protocol types in GRE for the ERSPAN header after it (draft-foschiano-erspan-03)."""

PROTO_ICMP, PROTO_TCP, PROTO_UDP, PROTO_GRE, PROTO_ICMPV6, PROTO_SCTP = 1, 6, 17, 47, 58, 132
ND_SOLICITATION, ND_ADVERTISEMENT = 135, 136
"""ICMPv6 types of neighbour discovery (RFC 4861)."""
UDP_VXLAN, UDP_GENEVE = 4789, 6081
"""UDP ports of tunnels (RFC 7348, RFC 8926)."""

VLAN_ID_MASK = 0xFFF
"""The bits of a tag that are its id; the three highest ones are its priority."""
VLAN_IDS = range(1, 4095)
"""Ids that name a VLAN: 0 stands for priority alone, 4095 is reserved."""

ETH_HEADER, VLAN_HEADER = 14, 4
IPV4_HEADER, IPV6_HEADER = 20, 40
"""Bytes of headers without options."""

OPENFLOW_VERSION = 4
"""OpenFlow 1.3 on the wire."""
MESSAGE_HEADER = Struct("!BBHI")
"""Version, type, length of the message in bytes, transaction id."""
OWN_XID, XID_BITS = 0xC7, 24
"""Top byte of the transaction ids of our own requests, and how many bits follow it."""
MULTIPART_DESCRIPTION = 0
MULTIPART_PORT_DESC = 13
"""The multipart message that describes the ports of a switch."""


class MessageType(IntEnum):
    """The types of OpenFlow 1.3 messages; who may send each: see ``FROM_SWITCHES``."""

    HELLO = 0
    ERROR = 1
    ECHO_REQUEST = 2
    ECHO_REPLY = 3
    EXPERIMENTER = 4
    FEATURES_REQUEST = 5
    FEATURES_REPLY = 6
    GET_CONFIG_REQUEST = 7
    GET_CONFIG_REPLY = 8
    SET_CONFIG = 9
    PACKET_IN = 10
    FLOW_REMOVED = 11
    PORT_STATUS = 12
    PACKET_OUT = 13
    FLOW_MOD = 14
    GROUP_MOD = 15
    PORT_MOD = 16
    TABLE_MOD = 17
    MULTIPART_REQUEST = 18
    MULTIPART_REPLY = 19
    BARRIER_REQUEST = 20
    BARRIER_REPLY = 21
    QUEUE_GET_CONFIG_REQUEST = 22
    QUEUE_GET_CONFIG_REPLY = 23
    ROLE_REQUEST = 24
    ROLE_REPLY = 25
    GET_ASYNC_REQUEST = 26
    GET_ASYNC_REPLY = 27
    SET_ASYNC = 28
    METER_MOD = 29


UNASKED = frozenset(
    {
        MessageType.HELLO,
        MessageType.ECHO_REQUEST,
        MessageType.PACKET_IN,
        MessageType.FLOW_REMOVED,
        MessageType.PORT_STATUS,
    }
)
"""Messages that a switch sends on its own: it chooses their transaction ids."""
FROM_SWITCHES = UNASKED | {
    MessageType.ERROR,
    MessageType.ECHO_REPLY,
    MessageType.EXPERIMENTER,
    MessageType.FEATURES_REPLY,
    MessageType.GET_CONFIG_REPLY,
    MessageType.MULTIPART_REPLY,
    MessageType.BARRIER_REPLY,
    MessageType.QUEUE_GET_CONFIG_REPLY,
    MessageType.ROLE_REPLY,
    MessageType.GET_ASYNC_REPLY,
}
"""Messages that a switch may send; only controllers send the others."""
