"""What people may ask for by law: a copy of what is known of them, and to be erased, here and everywhere."""
