"""Episodes to look at: pictures of them, and animations."""
