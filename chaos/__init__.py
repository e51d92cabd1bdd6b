"""Kills what a migration needs, at every moment of it, and judges where the VM is afterwards."""
