"""Containers on this machine's kernel: plain async Python over liblxc, cgroups and namespaces.

Nothing here knows the bus, rows or REST. Whatever is read from the kernel is a fact of now; what must outlive the service lies in
the folder of the instance (D/instances/<folder>) or in the kernel itself, never in memory alone.
"""
