"""What Twisted finds of Pilot: names only; what they stand for is imported when it is used."""

from twisted.application.service import ServiceMaker

from pilot.client.parser import PilotParser
from pilot.daemon.skill_maker import SkillMaker

pilot = ServiceMaker("Pilot node", "pilot.daemon.tap", "A node of the Pilot Protocol.", "pilot")

pilot_rendezvous = ServiceMaker(
    "Pilot rendezvous",
    "pilot.daemon.rendezvous_tap",
    "A registry and a beacon for Pilot nodes.",
    "pilot-rendezvous",
)

pilot_skill = ServiceMaker(
    "Pilot skill",
    "pilot.daemon.skill_tap",
    "Any installed skill, beside a running node.",
    "pilot-skill",
)

pilot_presence = SkillMaker("presence", "The presence skill, beside a running node.")

pilot_gossip = SkillMaker("gossip", "The gossip skill, beside a running node.")

pilot_endpoints = PilotParser()
