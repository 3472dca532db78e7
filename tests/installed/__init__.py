"""What an operator installs: the wheel, its service under systemd, and the pages about both."""
