"""Tasks: their life, their queue, their files, and what they are worth."""
