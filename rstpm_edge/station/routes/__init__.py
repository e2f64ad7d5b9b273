"""What the server answers: a file for each subject. Each has a function that makes a router from the station."""
