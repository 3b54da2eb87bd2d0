"""The log in a topic of Kafka, or of anything that speaks its protocol."""
