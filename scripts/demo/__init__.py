"""The demo model's making: corpus, tokenizer, network, optimiser and export."""
