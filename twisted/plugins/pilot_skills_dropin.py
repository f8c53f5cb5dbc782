"""The skills that come with Pilot, found by Twisted: names only."""

from skills.gossip.plugin import GossipSkill
from skills.presence.plugin import PresenceSkill

gossip = GossipSkill()

presence = PresenceSkill()
