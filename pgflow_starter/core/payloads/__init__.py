"""What a handler's input is decoded to, by its annotation. Only this room knows msgspec and pydantic, both optional."""
