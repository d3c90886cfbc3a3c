"""The hub: every stream of a call over the one connection that mod_audio_stream gives us."""
