"""What to say: from the messages of a claimed conversation to a stream of reply events.

    messages.py     the vocabulary: IncomingMessage, ConversationKey, ChatMessage, ReplyEvent
    manager.py      the way of one turn: load → route → retrieve → plan → draft → generate → record
    context.py      load: what is known, and who may know it
    router.py       route: command > sticky choice > default; commands and their effects
    memory.py       the commands about what is remembered of a person
    skills/         plan: ways of answering, each a file with its prompt texts
    draft.py        from a plan to the request for the engine; the rolling summary
    prompt.py       sections to token ids; budget.py: what fits, cut with hysteresis
    generation.py   one generation: waiting, stopping, a second try
    answer.py       what a turn ends with; document.py: what is kept about it; replay.py: read it, make it again
    words.py        what the dialogue itself says; catalogue.py: how a sentence is found in a language; locale/: the sentences
    extras.py       buttons and files that go out with a reply
    ports.py        what comes from outside: model, passages, adapter, time
    config.py       frozen settings; errors.py: the tree of errors
    tokenizer.py    text to ids and back; chat_template.py: messages to ids, so that no content forges a role;
                    gguf_tokenizer.py, tokenizer_document.py, template_sandbox.py, role_markers.py, normalise.py help them
    engine/         ids in, text out
    knowledge/      passages from the owner's documents

Knows no platform, no SQL and no settings file.
"""
