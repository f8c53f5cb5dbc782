from twisted.plugin import IPlugin
from zope.interface import implementer

from pilot.daemon.skill_maker import SkillMaker
from pilot.iskill import ISkill


@implementer(IPlugin, ISkill)
class GuestbookSkill:
    name = "guestbook"
    summary = "Keeps a guest book that peers can sign."
    port = None
    options = (("keep", 100, "Entries to keep."),)

    def make_skill(self, node, settings):
        from guestbook.service import Guestbook

        return Guestbook(node, settings)


guestbook = GuestbookSkill()

pilot_guestbook = SkillMaker("guestbook", "The guest book, beside a running node.")
