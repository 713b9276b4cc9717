"""System calls of unprivileged containers that the host carries out in their stead (security.syscalls.intercept.*).

The container's filter (`rules`) holds a call up; liblxc's monitor passes it on over a socket (`message`), one at a time a container, and
waits for the answer. The socket is served by the deputy (`deputy`), a small process of one thread that forks a child for each call: the
child reads the caller's memory, takes on the caller's root, ids and rights (`caller`), acts (`calls`) and ends. So a call that hangs, in
a file system or in memory that the container serves itself, holds up nobody else and is cut off after a while. The service
(`service`) holds the listening socket too and sees that there is a deputy while a container needs one.

What always holds: registers are judged as the kernel gave them; memory is read once, and what was read is what is acted upon; paths are
resolved with the caller's root as the root of the child, following no magic link; nothing is done for who lacks the right to ask for it
inside (its capability, in the container's own user namespace). What is not wanted is left to the kernel, which refuses it as ever.
"""
