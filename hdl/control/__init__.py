"""The controller: host registers, step descriptor, dispatch, semaphores, faults, counters."""
