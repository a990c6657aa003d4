"""From the times of requests to an answer: latencies, percentiles, what a window of time holds."""
