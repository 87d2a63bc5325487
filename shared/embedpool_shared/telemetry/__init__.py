"""What a process tells an operator: its metrics, its log lines, its traces."""
