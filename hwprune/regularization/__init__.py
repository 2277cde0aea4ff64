"""What a network's weights are drawn to while it trains, so that channels may go."""
