"""Ids in, text out: every engine, what stands before it, and where models and adapters come from.

    base                               the contract: Engine, GenerationRequest, events; factory: from settings to an engine

    admission ─► breaker ─► process ─► …   the levels before an engine, one concern each; every one is an Engine itself
    admission, fair_queue              who waits, who is next, who is refused
    breaker                            an engine that keeps failing is left alone for a while
    process, suspects, gate            the supervisor: restarts, who is to blame, who runs alone
    child_process, child_launch, child_stream      one child, seen from outside
    child, spec, wire                  the inside of the child; what it hosts; the frames between the two

    llamacpp, llama_slots, llama_request, cpu_cores          llama.cpp, embedded
    remote, remote_fleet, remote_seats, remote_servers, remote_examine, remote_call, replicas, completion_stream     servers
    scripted, stops, event_mailbox     answers by rule, for tests; stop strings; events from a thread to the loop

    local/                             engines of our own on torch: decoders and encoder–decoders

    models, hub_model, model_reference, model_sources, model_fetch, model_files, download, gguf_model     models
    adapters, adapter_files, adapter_schema, lora_gguf        LoRA adapters, strictly checked and converted
    bench/                             engines side by side

Knows no users, no conversations and no database.
"""
