"""The paper's tables again: every row trained and evaluated, and one report of ours beside theirs."""
