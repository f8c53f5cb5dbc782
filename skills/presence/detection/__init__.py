"""The sans-IO failure detector of the presence skill: who is there, by probes and rumours."""
