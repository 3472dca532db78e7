"""The pure core: from what tenants ask for to the exact flows of every bridge."""
