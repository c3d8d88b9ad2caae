"""What a conversion will take: time, memory and disk, said before the work."""
