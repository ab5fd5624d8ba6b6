"""For the agencies that read their topics: the AsyncAPI document, sample messages, who reads what, notices of what will end."""
