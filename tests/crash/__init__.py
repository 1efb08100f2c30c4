"""What a killed process leaves behind, and what the next one makes of it."""
