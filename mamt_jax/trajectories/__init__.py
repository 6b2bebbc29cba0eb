"""What happened in episodes: named arrays of it, files to keep, pictures, and animations."""
