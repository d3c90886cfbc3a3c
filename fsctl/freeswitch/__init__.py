"""FreeSWITCH's words, in one place: what we say (commands), what we hear (facts), how it ends (causes). Pure."""
