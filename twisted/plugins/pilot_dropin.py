"""What Twisted finds of Pilot: names only; what they stand for is imported when it is used."""

from twisted.application.service import ServiceMaker

from pilot.client.parser import PilotParser

pilot = ServiceMaker("Pilot node", "pilot.daemon.tap", "A node of the Pilot Protocol.", "pilot")

pilot_rendezvous = ServiceMaker(
    "Pilot rendezvous",
    "pilot.daemon.rendezvous_tap",
    "A registry and a beacon for Pilot nodes.",
    "pilot-rendezvous",
)

pilot_endpoints = PilotParser()
