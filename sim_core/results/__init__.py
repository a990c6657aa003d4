"""What a run says: latencies, rates, what binds, how sure; as text and as a timeline."""
