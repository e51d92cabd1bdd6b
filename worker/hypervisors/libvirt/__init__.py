"""The driver for hosts that libvirt manages: libvirt-python, and the five migration phases by ctypes."""
