"""Whether what the sources send is what it should be: valid, timely, and of the shape it always had."""
