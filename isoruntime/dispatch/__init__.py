"""One invocation: admission, deadline, lease, judgement."""
