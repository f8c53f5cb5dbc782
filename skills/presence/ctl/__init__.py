"""What each command of C{pilotctl presence} does."""
