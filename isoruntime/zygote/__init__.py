"""The zygote: the process that imports the handler once and forks workers."""
