"""The C{pilotctl gossip} family: what each command is called, takes and returns.

This table is all that C{pilotctl} reads to know the family; a run imports the one module that its
command needs.
"""

from __future__ import annotations

from pilot.ctl.table import Command

_NAME = "<swarm>"

COMMANDS: tuple[Command, ...] = (
    Command(
        "gossip join",
        "skills.gossip.ctl.swarms:join",
        (_NAME, "[--fanout <n>]", "[--interval <dur>]", "[--signed]"),
        "swarm, tag (empty: not set yet), members, keys, synced (bool)",
        "take part in a swarm, now and after every restart",
    ),
    Command(
        "gossip leave",
        "skills.gossip.ctl.swarms:leave",
        (_NAME,),
        "swarm, left (bool)",
        "say goodbye to a swarm and forget its state",
    ),
    Command(
        "gossip swarms",
        "skills.gossip.ctl.swarms:swarms",
        (),
        "swarms [{swarm, members, keys, bytes, root, synced}]",
        "list the swarms this node is in",
    ),
    Command(
        "gossip members",
        "skills.gossip.ctl.swarms:members",
        (_NAME,),
        "swarm, members [{node_id, address, hostname, standing, version, heard, agrees, ...}]",
        "list the members that this node knows of",
    ),
    Command(
        "gossip set",
        "skills.gossip.ctl.values:set_value",
        (_NAME, "<key>", "<value>", "[--replace]", "[--ttl <dur>]"),
        "swarm, key, value, hlc, stored (bool)",
        "write a value, JSON or else a text; an object is merged into what is there",
    ),
    Command(
        "gossip get",
        "skills.gossip.ctl.values:get",
        (_NAME, "[key]"),
        "swarm, key, value",
        "read a value, or the whole document",
    ),
    Command(
        "gossip del",
        "skills.gossip.ctl.values:delete",
        (_NAME, "<key>"),
        "swarm, key, deleted (number of keys)",
        "delete a key and everything below it",
    ),
    Command(
        "gossip keys",
        "skills.gossip.ctl.values:keys",
        (_NAME, "[--prefix <key>]"),
        "swarm, keys [{key, author, hlc, size}]",
        "list the keys",
    ),
    Command(
        "gossip dump",
        "skills.gossip.ctl.values:dump",
        (_NAME,),
        "swarm, state",
        "print the whole document, for import or jq",
    ),
    Command(
        "gossip import",
        "skills.gossip.ctl.values:import_file",
        (_NAME, "<file>"),
        "swarm, keys",
        "merge a JSON object from a file into the document",
    ),
    Command(
        "gossip push",
        "skills.gossip.ctl.messages:push",
        (_NAME, "[--data <json>]"),
        "swarm, peers [{node_id, address, sent (bool), error}]",
        "send the document, or the given object, to some members as scripts do",
    ),
    Command(
        "gossip merge",
        "skills.gossip.ctl.messages:merge",
        (_NAME,),
        "swarm, messages, keys, refused",
        "fold the pushes that lie in the inbox into the document, once",
    ),
    Command(
        "gossip sync",
        "skills.gossip.ctl.messages:sync",
        (_NAME, "[peer]"),
        "swarm, agreed (bool), peer, root; if not agreed: theirs, cause",
        "compare with a member now; succeeds only when both hold the same",
    ),
    Command(
        "gossip watch",
        "skills.gossip.ctl.watch:watch",
        (_NAME, "[--prefix <key>]", "[--count <n>]", "[--timeout <dur>]"),
        "one object a line: key, value, deleted, author, hlc, local, previous",
        "show changes as they come",
    ),
    Command(
        "gossip status",
        "skills.gossip.ctl.swarms:status",
        (_NAME,),
        "swarm, root, keys, bytes, synced, members, lag, offset, counts, storage, ...",
        "show how a swarm is doing from here",
    ),
    Command(
        "gossip doctor",
        "skills.gossip.ctl.messages:doctor",
        (_NAME,),
        "swarm, healthy (bool), root, agreeing, findings [{member, node_id, kind, problem, hint}]",
        "ask every member and report who differs, is skewed, silent or one-way",
    ),
)
