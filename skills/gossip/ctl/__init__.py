"""What each command of C{pilotctl gossip} does."""
