"""A guest book: peers sign it with a message, and it stays."""

import json

from twisted.application.service import Service
from zope.interface import implementer

from pilot.errors import InvalidArgument
from pilot.iskill import ISkillCalls, ISkillReport


@implementer(ISkillCalls, ISkillReport)
class Guestbook(Service):
    def __init__(self, node, settings):
        self.node = node
        self.keep = settings.integer("keep", 1, 10_000)
        self.file = settings.home / "entries.json"
        self.entries = json.loads(self.file.read_text()) if self.file.exists() else []
        self.readers = []

    def startService(self):
        super().startService()
        self.node.claim_messages("guestbook.", self.signed)

    def signed(self, source, document, size):
        entry = {"from": str(source), "text": str(document.get("text", ""))[:200]}
        self.entries = [*self.entries, entry][-self.keep :]
        self.file.write_text(json.dumps(self.entries))
        for send in self.readers:
            send(entry)
        return True  # ours now: it does not go to the inbox

    def calls(self):
        return {"list": lambda arguments: self.entries, "sign": self.sign}

    async def sign(self, arguments):
        if not arguments.get("target"):
            raise InvalidArgument("whose guest book?", hint="name a trusted peer")
        entry = {"type": "guestbook.entry", "text": arguments.get("text", "")}
        await self.node.send_message(arguments["target"], entry)
        return {"signed": arguments["target"]}

    def feeds(self):
        return {"watch": self.watch}

    def watch(self, arguments, send):
        self.readers.append(send)
        return lambda: self.readers.remove(send)

    def statistics(self):
        return {"entries": len(self.entries)}
