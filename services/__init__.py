"""The parts: one package each, meeting only in proto/ and on the bus. None imports another."""
