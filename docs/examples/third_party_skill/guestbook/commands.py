"""The commands of the guest book: what they are called, and which function does it."""

from pilot.ctl.table import Command

COMMANDS = (
    Command(
        "guestbook list",
        "guestbook.verbs:show",
        (),
        "entries [{from, text}]",
        "show who has signed the guest book of this node",
    ),
    Command(
        "guestbook sign",
        "guestbook.verbs:sign",
        ("<address|hostname>", "[text]"),
        "signed",
        "sign the guest book of a peer",
    ),
)
